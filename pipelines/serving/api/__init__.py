"""HTTP and WebSocket: routes, bodies, the guard in front of them, the page."""
