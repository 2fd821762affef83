"""The `chatgauge` command."""
