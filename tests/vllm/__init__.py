"""A real vLLM engine on a CPU against the HuggingFace server: `make test-vllm`. Not collected by `make test`."""
