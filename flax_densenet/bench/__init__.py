"""How fast the network is on this machine; `benchmarks/` compares it with others."""
