"""What is fast, measured: `python -m benchmarks` for all, `python -m benchmarks NAME` for one."""
