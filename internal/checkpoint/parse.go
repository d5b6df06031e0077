package checkpoint

// ParseSpec reads the contents of a checkpoint's config.json and of its model_spec.json, nil
// if there is none: what a plan needs where the weights are not at hand.
// Errors: ErrCheckpoint.
func ParseSpec(config, spec []byte) (Spec, error) {
	s, err := parseSpec(config, spec)
	if err != nil {
		return Spec{}, failf("%w", err)
	}
	return s, nil
}
