"""Every table, over one connection.

The same classes read the last committed state, read one snapshot, or write inside a transaction: what they may do
depends on the connection alone.
"""

from __future__ import annotations

from agent.state.apps import Apps, Scales, Server
from agent.state.arrivals import Arrivals
from agent.state.configs import Configs
from agent.state.deploys import Deploys
from agent.state.domains import Domains
from agent.state.keys import Invocations, Keys
from agent.state.outbox import Outbox
from agent.state.properties import Properties
from agent.state.pulls import Pulls
from agent.state.pushes import Pushes
from agent.state.releases import Releases
from agent.state.remotes import DeployKeys, HostKeys, Logins
from agent.state.replicas import Replicas
from agent.state.sql import Sql
from agent.state.tasks import Tasks
from agent.vault import Vault


class Tables:
    """What the agent remembers. `vault` seals and opens config, secret properties, passwords and keys."""

    def __init__(self, sql: Sql, vault: Vault) -> None:
        self.apps = Apps(sql)
        self.arrivals = Arrivals(sql)
        self.configs = Configs(sql, vault)
        self.deploy_keys = DeployKeys(sql, vault)
        self.deploys = Deploys(sql)
        self.domains = Domains(sql)
        self.host_keys = HostKeys(sql)
        self.invocations = Invocations(sql)
        self.keys = Keys(sql)
        self.logins = Logins(sql, vault)
        self.outbox = Outbox(sql)
        self.properties = Properties(sql, vault)
        self.pulls = Pulls(sql)
        self.pushes = Pushes(sql)
        self.releases = Releases(sql)
        self.replicas = Replicas(sql)
        self.scales = Scales(sql)
        self.server = Server(sql)
        self.tasks = Tasks(sql)
