const path = require("path");
const { subtask } = require("hardhat/config");
const { TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD } = require("hardhat/builtin-tasks/task-names");
require("@nomicfoundation/hardhat-ethers");
require("@nomicfoundation/hardhat-chai-matchers");

// One file says how the contracts are compiled; scripts/compile_contracts.py reads it too.
const compiler = require("./contracts/compiler.json");

// Hardhat would download a compiler; the npm package `solc` is the same one, and the lock file pins it.
subtask(TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD, async ({ solcVersion }) => {
  const found = require("solc/package.json").version;
  if (solcVersion !== found) {
    throw new Error(`contracts/compiler.json asks for solc ${solcVersion} but npm has ${found}: run npm ci`);
  }
  return {
    compilerPath: require.resolve("solc/soljson.js"),
    isSolcJs: true,
    version: found,
    longVersion: require("solc").version(),
  };
});

// Slither's run gives a folder of its own: left-over build information of older sources would be analysed too.
const build = process.env.YUNXI_HARDHAT_BUILD ?? path.join(__dirname, "build");

module.exports = {
  solidity: compiler,
  paths: {
    sources: path.join(__dirname, "contracts"),
    tests: path.join(__dirname, "tests", "hardhat"),
    cache: path.join(build, "hardhat-cache"),
    artifacts: path.join(build, "hardhat"),
  },
  // The fork the contracts are compiled for, so that a test cannot pass on a newer opcode.
  networks: { hardhat: { hardfork: "london", gasPrice: 0, initialBaseFeePerGas: 0 } },
};
