// Command judge asks containers/image, of which podman, skopeo and CRI-O are
// made, whether a policy.json allows an image: exit code 0 when it does.
//
//	judge POLICY.JSON REGISTRIES.D IMAGE
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containers/image/v5/docker"
	"github.com/containers/image/v5/image"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
)

func main() {
	if err := judge(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(ctx context.Context, policyFile, registries, name string) error {
	policy, err := signature.NewPolicyFromFile(policyFile)
	if err != nil {
		return err
	}
	context, err := signature.NewPolicyContext(policy)
	if err != nil {
		return err
	}
	defer context.Destroy()
	ref, err := docker.ParseReference("//" + name)
	if err != nil {
		return err
	}
	source, err := ref.NewImageSource(ctx, &types.SystemContext{
		RegistriesDirPath: registries, SystemRegistriesConfPath: os.DevNull, DockerInsecureSkipTLSVerify: types.OptionalBoolTrue,
	})
	if err != nil {
		return err
	}
	defer source.Close()
	if allowed, err := context.IsRunningImageAllowed(ctx, image.UnparsedInstance(source, nil)); !allowed {
		return err
	}
	return nil
}
