"""Networks: backbones, region proposals, RoI heads and the detector made of them."""
