"""The size of a network before it is built: operations, parameters, FLOPs, training memory.

Pure arithmetic on the configuration: no framework is needed, and nothing is computed.
"""
