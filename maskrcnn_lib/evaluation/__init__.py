"""From predictions to numbers.

``rules`` chooses: ``coco_eval`` (by ``average_precision`` on the arrays of ``coco_arrays``, or by a
package), ``voc_eval``, ``cityscapes_eval``; ``proposal_recall`` is for proposals. ``ground_truth``
gives the annotations of any data set in COCO's form, ``tables`` shows ``scores`` as text.
"""
