"""Builds one dataset from many repositories: tasks that see one repository, and joins that see tables of all."""
