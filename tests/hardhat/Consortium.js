const { expect } = require("chai");
const { loadFixture, time } = require("@nomicfoundation/hardhat-network-helpers");
const { ethers } = require("hardhat");
const { DAY, USE, found, id, now, running, vote } = require("./support");

const KID = ethers.id("kid");
const KEY = ethers.id("a public key");

describe("Consortium", () => {
  it("is the deployer's until set-up closes, and nobody's afterwards", async () => {
    const { consortium, departments, deployer } = await loadFixture(found);
    await expect(consortium.connect(departments.fire.governor).suspend(id("urban")))
      .to.be.revertedWithCustomError(consortium, "ConsortiumUnauthorised")
      .withArgs(departments.fire.governor.address);
    await expect(consortium.closeSetup(2)).to.emit(consortium, "SetupClosed").withArgs(2, 4);
    for (const account of [deployer, departments.fire.governor]) {
      await expect(consortium.connect(account).suspend(id("urban")))
        .to.be.revertedWithCustomError(consortium, "ConsortiumUnauthorised")
        .withArgs(account.address);
    }
  });

  it("admits by a majority of its departments", async () => {
    const world = await loadFixture(running);
    const admission = [id("water"), "水务局", "yunxi.example/water", "https://water.example", world.stranger.address];
    await expect(vote(world, ["fire", "health"], "admit", admission))
      .to.be.revertedWithCustomError(world.consortium, "ConsortiumTooFewVotes")
      .withArgs(0, 2, 3);
    await expect(vote(world, ["fire", "health", "market"], "admit", admission)).to.emit(
      world.consortium,
      "DepartmentAdmitted",
    );
  });

  it("lets proposals expire and be carried out once", async () => {
    const world = await loadFixture(running);
    const { consortium, departments } = world;
    const fire = consortium.connect(departments.fire.governor);
    const action = consortium.interface.encodeFunctionData("suspend", [id("urban")]);
    await vote(world, ["fire", "health", "market"], "suspend", [id("urban")]);
    await expect(fire.execute(0, action)).to.be.revertedWithCustomError(consortium, "ConsortiumProposalExecuted");
    await fire.propose(action, (await now()) + DAY);
    await time.increase(DAY);
    await expect(consortium.connect(departments.health.governor).approve(1)).to.be.revertedWithCustomError(
      consortium,
      "ConsortiumProposalExpired",
    );
  });

  it("keeps a key's interval when the key is rotated", async () => {
    const { consortium, departments } = await loadFixture(running);
    const fire = consortium.connect(departments.fire.governor);
    const start = await now();
    await fire.registerKey(id("fire"), KID, USE.Statement, KEY, start);
    const change = start + 1000;
    await fire.rotateKey(id("fire"), KID, ethers.id("kid 2"), ethers.id("another"), change);
    const [old, next] = [await consortium.key(KID), await consortium.key(ethers.id("kid 2"))];
    expect([old.validFrom, old.validTo, next.validFrom, next.validTo]).to.deep.equal(
      [start, change, change, 0].map(BigInt),
    );
  });

  it("lets nobody reach back in time", async () => {
    const { consortium, departments } = await loadFixture(running);
    const fire = consortium.connect(departments.fire.governor);
    await expect(
      fire.registerKey(id("fire"), KID, USE.Statement, KEY, (await now()) - 3600),
    ).to.be.revertedWithCustomError(consortium, "ConsortiumKeyBackdated");
    await fire.registerKey(id("fire"), KID, USE.Statement, KEY, await now());
    await expect(fire.closeKey(id("fire"), KID, (await now()) - 10)).to.be.revertedWithCustomError(
      consortium,
      "ConsortiumKeyClosedInThePast",
    );
  });

  it("does not let a department act for another", async () => {
    const { consortium, departments } = await loadFixture(running);
    await expect(
      consortium.connect(departments.urban.governor).registerKey(id("fire"), KID, USE.Statement, KEY, await now()),
    ).to.be.revertedWithCustomError(consortium, "ConsortiumUnauthorised");
  });
});
