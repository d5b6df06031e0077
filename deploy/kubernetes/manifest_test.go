// Package kubernetes_test sees that the manifests fit what wanrun reads.
package kubernetes_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/placement"
)

type container struct {
	Name string
	Args []string
	Env  []struct {
		Name, Value string
		ValueFrom   struct {
			FieldRef     struct{ FieldPath string }
			SecretKeyRef struct{ Name, Key string }
		}
	}
	Ports []struct {
		Name          string
		ContainerPort int
	}
	Resources    map[string]map[string]any
	VolumeMounts []struct{ Name, MountPath string }
}

type podSpec struct {
	RestartPolicy                 string
	TerminationGracePeriodSeconds int
	Containers                    []container
	Volumes                       []struct{ Name string }
}

// jobSet has the fields of JobSet v1alpha2 that matter here.
type jobSet struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		FailurePolicy struct {
			MaxRestarts int
			Rules       []struct {
				Name                string
				Action              string
				OnJobFailureReasons []string
			}
		}
		ReplicatedJobs []struct {
			Name     string
			Replicas int
			Template struct {
				Spec struct {
					Parallelism, Completions int
					CompletionMode           string
					PodFailurePolicy         struct {
						Rules []struct {
							OnExitCodes struct {
								ContainerName string
								Values        []int
							}
						}
					}
					Template struct{ Spec podSpec }
				}
			}
		}
	}
}

// leaderWorkerSet has the fields of LeaderWorkerSet v1 that matter here.
type leaderWorkerSet struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		LeaderWorkerTemplate struct {
			Size           int
			RestartPolicy  string
			WorkerTemplate struct{ Spec podSpec }
		}
	}
}

// decode reads a manifest. Kubernetes writes its fields in camel case.
func decode[T any](t *testing.T, file string) T {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var fields any
	if err := yaml.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	lower, err := yaml.Marshal(lowerKeys(fields))
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := yaml.Unmarshal(lower, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// lowerKeys writes all keys but apiVersion in lower case, as the decoder's defaults want.
func lowerKeys(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			if key != "apiVersion" {
				key = strings.ToLower(key)
			}
			out[key] = lowerKeys(value)
		}
		return out
	case []any:
		for i := range v {
			v[i] = lowerKeys(v[i])
		}
	}
	return v
}

// env returns the container's variables as a pod with labels sees them.
func env(t *testing.T, c container, labels map[string]string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, e := range c.Env {
		switch path := e.ValueFrom.FieldRef.FieldPath; {
		case path != "":
			label, ok := strings.CutPrefix(path, "metadata.labels['")
			value, known := labels[strings.TrimSuffix(label, "']")]
			if !ok || !known {
				t.Errorf("%s is taken from %s, which JobSet does not set", e.Name, path)
			}
			out[e.Name] = value
		case e.ValueFrom.SecretKeyRef.Name != "":
			out[e.Name] = "secret"
		default:
			out[e.Name] = e.Value
		}
	}
	return out
}

// ranks returns the product of the parallel degrees in args.
func ranks(t *testing.T, args []string) int {
	t.Helper()
	n := 1
	for _, arg := range args {
		for _, flag := range []string{"--ulysses=%d", "--ring=%d"} {
			var degree int
			if _, err := fmt.Sscanf(arg, flag, &degree); err == nil {
				n *= degree
			}
		}
	}
	return n
}

func checkPod(t *testing.T, pod podSpec, numNodes int) {
	t.Helper()
	if len(pod.Containers) != 1 {
		t.Fatalf("%d containers, want 1", len(pod.Containers))
	}
	c := pod.Containers[0]
	gpus, _ := c.Resources["limits"]["nvidia.com/gpu"].(uint64)
	if want := ranks(t, c.Args); int(gpus)*numNodes != want || want < 2 {
		t.Errorf("%d nodes of %d GPUs, but %d ranks by %v", numNodes, gpus, want, c.Args)
	}
	var volumes []string
	for _, v := range pod.Volumes {
		volumes = append(volumes, v.Name)
	}
	shm := false
	for _, m := range c.VolumeMounts {
		shm = shm || m.MountPath == "/dev/shm"
		if !slices.Contains(volumes, m.Name) {
			t.Errorf("volume %s is not there", m.Name)
		}
	}
	if !shm || pod.TerminationGracePeriodSeconds <= 10 {
		t.Errorf("/dev/shm mounted: %v; %d s to end, want more than wanrun's 10", shm, pod.TerminationGracePeriodSeconds)
	}
}

func checkPlace(t *testing.T, vars map[string]string, source placement.Source, node, numNodes int, host string, port int) {
	t.Helper()
	p, err := placement.Find(environ.Map(vars), placement.Given{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Source != source || p.NodeRank != node || p.NumNodes != numNodes || p.Rendezvous.Host != host || !slices.Equal(p.Rendezvous.Ports, []int{port}) {
		t.Errorf("node %d: %+v", node, p)
	}
}

func TestJobSet(t *testing.T) {
	m := decode[jobSet](t, "jobset.yaml")
	if m.APIVersion != "jobset.x-k8s.io/v1alpha2" || m.Kind != "JobSet" || len(m.Spec.ReplicatedJobs) != 1 {
		t.Fatalf("%+v", m)
	}
	job := m.Spec.ReplicatedJobs[0]
	spec := job.Template.Spec
	numNodes := job.Replicas * spec.Completions
	if spec.Parallelism != spec.Completions || spec.CompletionMode != "Indexed" || spec.Template.Spec.RestartPolicy != "Never" {
		t.Errorf("%+v: all pods must run at once, with an index, and never restart by themselves", spec)
	}
	checkPod(t, spec.Template.Spec, numNodes)
	c := spec.Template.Spec.Containers[0]
	if rules := spec.PodFailurePolicy.Rules; len(rules) != 1 || rules[0].OnExitCodes.ContainerName != c.Name || !slices.Equal(rules[0].OnExitCodes.Values, []int{64, 65, 66, 73}) {
		t.Errorf("pod failure policy %+v", rules)
	}
	if rules := m.Spec.FailurePolicy.Rules; len(rules) != 1 || rules[0].Action != "FailJobSet" || !slices.Equal(rules[0].OnJobFailureReasons, []string{"PodFailurePolicy"}) {
		t.Errorf("failure policy %+v", rules)
	}
	// The form that JobSet's schema has for a rule's name.
	for _, rule := range m.Spec.FailurePolicy.Rules {
		if !regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`).MatchString(rule.Name) {
			t.Errorf("rule name %q", rule.Name)
		}
	}
	for node := range numNodes {
		vars := env(t, c, map[string]string{
			"jobset.sigs.k8s.io/jobset-name":            m.Metadata.Name,
			"jobset.sigs.k8s.io/replicatedjob-name":     job.Name,
			"jobset.sigs.k8s.io/replicatedjob-replicas": fmt.Sprint(job.Replicas),
			"jobset.sigs.k8s.io/job-index":              fmt.Sprint(node / spec.Completions),
			"jobset.sigs.k8s.io/restart-attempt":        "0",
		})
		vars["JOB_COMPLETION_INDEX"] = fmt.Sprint(node % spec.Completions)
		if vars["WANRUN_SECRET"] == "" {
			t.Error("no WANRUN_SECRET")
		}
		checkPlace(t, vars, placement.FromJobSet, node, numNodes, "wan-node-0-0.wan", c.Ports[0].ContainerPort)
	}
}

func TestLWS(t *testing.T) {
	m := decode[leaderWorkerSet](t, "lws.yaml")
	group := m.Spec.LeaderWorkerTemplate
	if m.APIVersion != "leaderworkerset.x-k8s.io/v1" || m.Kind != "LeaderWorkerSet" || group.RestartPolicy != "RecreateGroupOnPodRestart" {
		t.Fatalf("%+v", m)
	}
	pod := group.WorkerTemplate.Spec
	checkPod(t, pod, group.Size)
	for node := range group.Size {
		vars := env(t, pod.Containers[0], nil)
		// What the controller adds, by its own naming.
		vars["LWS_LEADER_ADDRESS"] = m.Metadata.Name + "-0." + m.Metadata.Name + ".default"
		vars["LWS_GROUP_SIZE"], vars["LWS_WORKER_INDEX"] = fmt.Sprint(group.Size), fmt.Sprint(node)
		checkPlace(t, vars, placement.FromLWS, node, group.Size, "wan-0.wan.default", pod.Containers[0].Ports[0].ContainerPort)
	}
}
