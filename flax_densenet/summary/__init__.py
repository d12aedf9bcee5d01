"""The size of a network: operations, parameters, FLOPs and training memory.

Pure arithmetic on the configuration: no framework is needed, and nothing is computed.
"""
