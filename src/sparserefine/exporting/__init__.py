"""A refiner as one file for other runtimes: ONNX and torch.export, with a fixed pixel budget."""
