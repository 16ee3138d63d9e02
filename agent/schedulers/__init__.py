"""Ways to run replicas, one per file, behind ``agent.ports.scheduler.Scheduler``."""
