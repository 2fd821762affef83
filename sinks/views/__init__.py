"""The views in ClickHouse: those of windows are generated from the catalogue, the others are SQL files."""
