"""People in your own frames, in your own process: without Ray, files or a service."""
