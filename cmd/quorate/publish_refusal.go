package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"quorate.dev/builder/image"
	"quorate.dev/rebuild/agreement"
	"quorate.dev/rebuild/attestation"
)

// refusalFile is the signed record in a results folder that there is no agreement.
const refusalFile = "refusal" + attestation.BundleSuffix

// refusalAnswer is what `quorate publish --refusal --json` answers.
type refusalAnswer struct {
	Decision  string          `json:"decision"`   // "disagree" or "inconclusive"
	Images    []string        `json:"references"` // by digest; the images themselves need not be there
	Referrers []publishedPart `json:"referrers"`  // of the last of them
}

func runPublishRefusal(ctx context.Context, ui *terminal, results, refText string, f publishFlags) error {
	ref, err := repositoryIn(refText)
	if err != nil {
		return err
	}
	p := &publication{ui: ui, client: f.registry.client(ui), ref: ref}
	if p.policy, err = f.readPolicy(results, ref, refusalFile); err != nil {
		return err
	}
	decision, err := p.readRefusal(results)
	if err != nil {
		return err
	}
	built, err := p.built(results)
	if err != nil {
		return err
	}
	answer := refusalAnswer{Decision: string(decision)}
	for _, t := range built {
		if answer.Referrers, err = p.attach(ctx, t); err != nil {
			return err
		}
		answer.Images = append(answer.Images, ref.At(t.Digest).String())
	}
	if f.asJSON {
		ui.answerJSON(answer)
		return nil
	}
	for _, one := range answer.Images {
		ui.answer("%s", one)
	}
	return nil
}

// readRefusal opens the record, which a signer of the policy must have signed,
// and makes artifacts of it and of the reports that it rests on.
func (p *publication) readRefusal(dir string) (agreement.Decision, error) {
	path := filepath.Join(dir, refusalFile)
	data, err := readSmallFile(path, largestBundle)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no refusal in %q: rebuild writes one when rebuilders do not agree", dir)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read refusal: %w", err)
	}
	if p.opened, err = attestation.OpenBundle(data, p.policy); err != nil {
		return "", fmt.Errorf("cannot open the refusal in %q: %w", dir, err)
	}
	if len(p.opened.Refusals) != 1 {
		tellVerdict(p.ui, p.opened, 1)
		return "", fmt.Errorf("%q holds %s that a signer of the policy signed, expected one", path, count(len(p.opened.Refusals), "refusal"))
	}
	return p.opened.Refusals[0].Decision, p.addBundles()
}

// built are the images that rebuilders left in the results, each once, as far
// as the record names them.
func (p *publication) built(dir string) ([]target, error) {
	named := p.opened.Refusals[0].Built
	var all []target
	for _, r := range p.policy.Rebuilders {
		layout, err := image.ReadOCI(filepath.Join(dir, "rebuilders", r.Name, "image"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(layout.Images, func(img image.Image) bool {
			return !slices.ContainsFunc(named, func(s agreement.Subject) bool { return s.Digest == img.ManifestDigest })
		}) {
			p.ui.warn("what %s left in %q is not what its report names; nothing is attached to it", r.Name, dir)
			continue
		}
		some, err := targets(layout.Images)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b target) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	all = slices.CompactFunc(all, func(a, b target) bool { return a.Digest == b.Digest })
	if len(all) == 0 {
		return nil, fmt.Errorf("no rebuilder left an image in %q, so there is nothing to attach the record to", dir)
	}
	return all, nil
}
