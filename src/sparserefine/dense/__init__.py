"""Dense segmentation models behind one protocol."""
