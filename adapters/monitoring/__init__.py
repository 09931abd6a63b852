"""How a worker is, told outside: a heartbeat file, metrics, logs, events, alerts, systemd.

Each part is a module of its own, imported where it is wanted: who wants a log needs no messenger.
"""

from __future__ import annotations
