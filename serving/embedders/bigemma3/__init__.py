"""BiGemma3 by HuggingFace's libraries and by vLLM."""
