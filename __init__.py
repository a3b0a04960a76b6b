"""kvplane: sends each LLM request to the replica that already holds its KV cache."""

__version__ = "0.1.0"
