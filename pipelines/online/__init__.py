"""Tracking of live streams behind Ray Serve: the offline detector and tracker, one frame a call."""

from pipelines.online.client import Client, ClientStream, ServiceError, connect

__all__ = ["Client", "ClientStream", "ServiceError", "connect"]
