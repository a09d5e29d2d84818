"""The loops that put model, data and evaluation together.

Training: ``training`` makes all from a config, ``trainer`` is the loop, ``step`` one iteration;
``batch``, ``prefetch``, ``cast_weights`` and ``training_graphs`` bring it to the GPU; ``events``,
``progress`` and ``pictures`` show it; ``preflight`` and ``starting_point`` are its beginning,
``termination`` its end, ``processes`` its ranks.

Inference: ``inference`` makes a ``detector`` from a config, ``postprocess`` ends it;
``test_time_augmentation`` looks several times, ``fast_model`` and ``cuda_graphs`` make it fast;
``predictor`` is COCODemo.

Evaluation: ``measuring`` scores a data set, ``testing`` runs the detector over it, ``parts`` joins
ranges of it; ``loader_inference`` is maskrcnn-benchmark's function. ``benchmark`` and ``flops``
measure a model alone.
"""
