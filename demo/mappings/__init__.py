"""Mapping files of the demonstration, one for each export that demo.exports writes."""
