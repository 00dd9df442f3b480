import { Argument, type Command } from "commander";
import type { Shell } from "../completion/scripts.ts";
import { EXIT } from "../terminal/exit-code.ts";

const SHELLS: readonly Shell[] = ["bash", "zsh", "fish"];

const AFTER_HELP = `
  bash  eval "$(stitch completion bash)"      in ~/.bashrc
  zsh   eval "$(stitch completion zsh)"       in ~/.zshrc
  fish  stitch completion fish | source       in ~/.config/fish/config.fish`;

/** `stitch completion SHELL`, and `stitch complete -- WORD…`, which its scripts call at each Tab. */
export function registerCompletion(program: Command): void {
  program
    .command("completion")
    .description("print a script that completes commands, options and ids at the Tab key")
    .addArgument(new Argument("<shell>", "your shell").choices(SHELLS))
    .addHelpText("after", AFTER_HELP)
    .action(async (shell: Shell) => {
      const { SCRIPTS } = await import("../completion/scripts.ts");
      process.stdout.write(SCRIPTS[shell]);
      process.exitCode = EXIT.done;
    });
  program.command("complete [words...]", { hidden: true }).action(async (words: string[]) => {
    const { complete } = await import("../completion/complete.ts");
    process.stdout.write(await complete(program, words));
    process.exitCode = EXIT.done;
  });
}
