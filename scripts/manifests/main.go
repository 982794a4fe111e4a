// What scripts/chart does to manifests and cannot do in a shell.
//
//	manifests policy FILE...        each pod against Kubernetes' own rules for restricted pods, and some of ours
//	manifests schemas OUT CRD...    the JSON schemas of custom resources, for kubeconform
//	manifests split OUT < FILE      for Kustomize: ConfigMaps as the files they hold, everything else in one
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 2 && args[0] == "policy":
		return checkPolicy(args[1:])
	case len(args) >= 3 && args[0] == "schemas":
		return writeSchemas(args[1], args[2:])
	case len(args) == 2 && args[0] == "split":
		return split(os.Stdin, args[1])
	}
	return errors.New("usage: manifests policy FILE... | schemas OUT CRD... | split OUT")
}

// documents gives the texts of a file's YAML documents that hold anything.
func documents(text []byte) [][]byte {
	var found [][]byte
	for _, part := range bytes.Split(append([]byte("\n"), text...), []byte("\n---")) {
		// The rest of the separator's line.
		if end := bytes.IndexByte(part, '\n'); end >= 0 {
			part = part[end+1:]
		}
		var value any
		if yaml.Unmarshal(part, &value) == nil && value == nil {
			continue
		}
		found = append(found, part)
	}
	return found
}

type object struct {
	Kind     string            `json:"kind"`
	Metadata metav1.ObjectMeta `json:"metadata"`
	Data     map[string]string `json:"data"`
	Spec     json.RawMessage   `json:"spec"`
}

func checkPolicy(files []string) error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		return err
	}
	var faults []string
	pods := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, document := range documents(text) {
			var found object
			if err := yaml.Unmarshal(document, &found); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			pod, err := podOf(found)
			if err != nil {
				return fmt.Errorf("%s: %s %s: %w", file, found.Kind, found.Metadata.Name, err)
			}
			if pod == nil {
				continue
			}
			pods++
			for _, fault := range faultsOf(evaluator, pod) {
				faults = append(faults, fmt.Sprintf("%s: %s %s: %s", filepath.Base(file), found.Kind, found.Metadata.Name, fault))
			}
		}
	}
	if pods == 0 {
		return errors.New("no pods among them")
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "\n"))
	}
	fmt.Printf("%d pods in %d files are restricted ones\n", pods, len(files))
	return nil
}

// podOf gives the pod that an object is, or makes.
func podOf(found object) (*corev1.PodTemplateSpec, error) {
	pod := &corev1.PodTemplateSpec{ObjectMeta: found.Metadata}
	switch found.Kind {
	case "Pod":
		return pod, yaml.Unmarshal(found.Spec, &pod.Spec)
	case "StatefulSet", "Deployment", "DaemonSet", "ReplicaSet", "Job":
		var spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		}
		err := yaml.Unmarshal(found.Spec, &spec)
		return &spec.Template, err
	case "CronJob":
		return nil, errors.New("not looked into yet")
	}
	return nil, nil
}

func faultsOf(evaluator policy.Evaluator, pod *corev1.PodTemplateSpec) []string {
	var faults []string
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
		if !result.Allowed {
			faults = append(faults, fmt.Sprintf("%s (%s)", result.ForbiddenReason, result.ForbiddenDetail))
		}
	}
	// Beyond what Kubernetes asks of a restricted pod.
	if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
		faults = append(faults, "a token of the service account is mounted")
	}
	if pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks {
		faults = append(faults, "Services are among the variables (enableServiceLinks)")
	}
	for _, container := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		fault := func(text string) { faults = append(faults, "container "+container.Name+": "+text) }
		security := container.SecurityContext
		if security == nil || security.ReadOnlyRootFilesystem == nil || !*security.ReadOnlyRootFilesystem {
			fault("its root can be written to (readOnlyRootFilesystem)")
		}
		if container.Resources.Requests.Cpu().IsZero() || container.Resources.Requests.Memory().IsZero() {
			fault("no requests of CPU and memory")
		}
		if container.Resources.Limits.Memory().IsZero() {
			fault("no limit of memory")
		}
		if strings.HasSuffix(container.Image, ":latest") || !strings.ContainsAny(container.Image, ":@") {
			fault("an image without a version: " + container.Image)
		}
	}
	return faults
}

// writeSchemas writes NAME_VERSION.json for each version of each resource; fields that are not in it are refused.
func writeSchemas(out string, files []string) error {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var crd struct {
			Spec struct {
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct {
						OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
					}
				}
			}
		}
		if err := yaml.Unmarshal(text, &crd); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, version := range crd.Spec.Versions {
			schema := strict(version.Schema.OpenAPIV3Schema).(map[string]any)
			written, err := json.Marshal(schema)
			if err != nil {
				return err
			}
			name := fmt.Sprintf("%s_%s.json", strings.ToLower(crd.Spec.Names.Kind), version.Name)
			if err := os.WriteFile(filepath.Join(out, name), written, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// strict says of every object that names its fields that it has no others, as the API server drops them.
func strict(value any) any {
	switch of := value.(type) {
	case map[string]any:
		for key, inner := range of {
			of[key] = strict(inner)
		}
		if of["x-kubernetes-int-or-string"] == true {
			delete(of, "type")
			delete(of, "format")
			of["type"] = []any{"integer", "string"}
		}
		_, named := of["properties"].(map[string]any)
		_, others := of["additionalProperties"]
		open := of["x-kubernetes-preserve-unknown-fields"] == true
		// A field may itself be called `properties`; then there is no type beside it.
		if named && of["type"] == "object" && !others && !open {
			of["additionalProperties"] = false
		}
	case []any:
		for index, inner := range of {
			of[index] = strict(inner)
		}
	}
	return value
}

// split writes `tidegate.yaml` with everything but the ConfigMaps, whose files go into `config` and `feeds` by the
// ends of their names: from them Kustomize makes ConfigMaps of its own.
func split(in io.Reader, out string) error {
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var rest bytes.Buffer
	rest.WriteString("# Rendered from helm/tidegate by scripts/chart render: change that, not this.\n")
	for _, document := range documents(text) {
		var found object
		if err := yaml.Unmarshal(document, &found); err != nil {
			return err
		}
		if found.Kind != "ConfigMap" {
			rest.WriteString("---\n")
			for _, line := range strings.SplitAfter(strings.Trim(string(document), "\n"), "\n") {
				if !strings.HasPrefix(line, "# Source: ") {
					rest.WriteString(line)
				}
			}
			rest.WriteString("\n")
			continue
		}
		name := found.Metadata.Name
		folder := filepath.Join(out, name[strings.LastIndex(name, "-")+1:])
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		for file, content := range found.Data {
			if err := os.WriteFile(filepath.Join(folder, file), []byte(content), 0o644); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(out, "tidegate.yaml"), rest.Bytes(), 0o644)
}
