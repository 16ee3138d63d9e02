// Package greeting stands for a module that somebody else wrote.
package greeting

// Of returns a greeting.
func Of(name string) string {
	return "Hello from " + name
}
