"""attnbench tells what an attention really costs: parameters, arithmetic, latency, memory and throughput."""

__version__ = "0.1.0"
