"""What can be asked over HTTP: one module and one `router` per subject; `api.app` lists them."""
