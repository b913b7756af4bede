"""The named calls of the page, for gradio_client and any HTTP client."""
