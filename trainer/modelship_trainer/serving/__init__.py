"""What runs in a serving pod: the init step that fetches and verifies, and the ONNX Runtime backend of the CPU image."""
