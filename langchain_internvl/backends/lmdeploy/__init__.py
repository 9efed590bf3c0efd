"""LMDeploy in this process: its engines by their own `pipeline`, asked by token ids."""
