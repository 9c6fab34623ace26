"""From a trained module and its preprocessing to one ONNX graph, and back to predictions."""
