"""Images decoded in processes that can be ended."""
