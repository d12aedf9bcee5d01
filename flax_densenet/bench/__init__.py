"""The network's speed on this machine; `benchmarks/` compares it with others."""
