"""What a network costs before it is built: operations, parameters, FLOPs and training memory.

Pure arithmetic on the configuration: no framework is needed, and nothing is computed.
"""
