"""Record types as data: one JSON Schema file a type and version. See docs/record-types.md."""
