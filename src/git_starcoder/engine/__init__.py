"""Runs tasks in worker processes, and caches results between builds."""
