"""Experiments at the server: what is kept of them, how people see them, and the service that runs and steers them.

It knows the state folder and membership. It knows nothing of gRPC and HTTP.
"""
