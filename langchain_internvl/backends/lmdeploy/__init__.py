"""LMDeploy in this process: its `pipeline` with either engine, prompted by token ids."""
