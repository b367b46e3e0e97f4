"""Photos by the million, on a cluster: Ray Data, one actor per device."""
