"""The hosted logs as C2SP tlog-tiles, for whoever wants to follow one."""
