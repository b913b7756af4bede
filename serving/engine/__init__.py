"""The local engine: one worker that starts on demand and scales to zero, and the proxy in front of it."""
