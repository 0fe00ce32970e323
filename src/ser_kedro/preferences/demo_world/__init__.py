"""The demo world: preference pairs with a known gold reward."""
