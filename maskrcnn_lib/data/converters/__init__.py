"""Other annotation formats as COCO annotations."""
