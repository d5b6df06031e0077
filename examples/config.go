package examples

import _ "embed"

//go:embed demo-model/checkpoint/config.json
var demoConfig []byte

// DemoConfig returns the demo model's config.json.
func DemoConfig() []byte { return demoConfig }
