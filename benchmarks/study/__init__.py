"""The study of what helps: cells of losses and tasks, measured one by one."""
