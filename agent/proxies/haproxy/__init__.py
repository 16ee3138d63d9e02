"""HAProxy as the proxy: its own process, changed through its runtime API, seldom reloaded."""

from agent.proxies.haproxy.proxy import HaproxyProxy
from agent.proxies.haproxy.supervisor import shutdown

__all__ = ["HaproxyProxy", "shutdown"]
