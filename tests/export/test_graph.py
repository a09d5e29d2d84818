"""The recorded graph of a trained model finds what the model finds, on images of other sizes."""

import numpy as np
import pytest
import torch

from maskrcnn_lib.engine.inference import PACKAGED_MODEL, build_detector, choose_model
from maskrcnn_lib.export.agreement import agreement, network_pixels
from maskrcnn_lib.export.graph import record
from maskrcnn_lib.layers._library import ops_available


@pytest.mark.skipif(not ops_available(), reason="needs the compiled operators")
def test_recorded_graph_finds_the_same(photo):
    detector = build_detector(*choose_model(model=PACKAGED_MODEL), pack=False)
    graph = record(detector).module()
    photos = [photo("chelsea"), photo("astronaut").transpose(1, 0, 2)[:, :300]]
    for image in (*photos, np.full((200, 240, 3), 128, np.uint8)):
        pixels = network_pixels(detector.transform, image)
        with torch.inference_mode():
            found = graph(pixels, torch.tensor(image.shape[:2]))
        result = agreement(detector([image])[0], found)
        assert result.good, str(result)
        assert result.counts[0] or image.std() == 0
