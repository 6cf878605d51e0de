package main

import "github.com/spf13/cobra"

// verbs is every verb, hidden ones last.
func verbs(ui *terminal) []*cobra.Command {
	return []*cobra.Command{
		initCmd(ui),
		lockCmd(ui),
		buildCmd(ui),
		rebuildCmd(ui),
		rebuildersCmd(ui),
		serveCmd(ui),
		publishCmd(ui),
		showCmd(ui),
		reproduceCmd(ui),
		diffCmd(ui),
		sbomCmd(ui),
		archiveCmd(ui),
		verifyCmd(ui),
		keyCmd(ui),
		policyCmd(ui),
		doctorCmd(ui),
		storeCmd(ui),
		schemaCmd(ui),
		versionCmd(ui),
		manCmd(ui),
		workerCmd(ui),
		sweepCmd(ui),
	}
}
