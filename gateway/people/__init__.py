"""People who sign in: local accounts by default, an OpenID Connect provider where the district has one."""
