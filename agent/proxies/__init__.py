"""Ways to route HTTP, one per folder, behind ``agent.ports.proxy.Proxy``."""
